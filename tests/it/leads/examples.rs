//! Examples of the contract's source document: requests and answers as they stand there, except for
//! the ids, which are those of this store.

/// Example of one endpoint.
pub struct ContractExample {
    /// Path under [`super::INCOMING`].
    pub path: &'static str,
    pub request: &'static str,
    pub answer: &'static str,
}

/// All 16 examples, in an order in which each finds its entity.
pub const EXAMPLES: [ContractExample; 16] = [
    ContractExample {
        path: "pre-lead/create",
        request: r#"{
  "event": "new_inquiry",
  "source": "website",
  "data": {
    "first_name": "John",
    "last_name": "Doe",
    "email": "john.doe@example.com",
    "phone": "+1234567890",
    "company_name": "ABC Corp",
    "source": "website",
    "product_interest": "CRM Software",
    "requirements": "Need enterprise CRM solution",
    "city": "New York",
    "state": "NY",
    "country": "USA",
    "address_line1": "123 Main St",
    "address_line2": "Suite 100",
    "zip_code": "10001",
    "notes": "Interested in demo",
    "lead_status": "new",
    "industry_id": 1,
    "region_id": 1,
    "office_timings": "9:00 AM - 5:00 PM",
    "timezone": "EST"
  }
}"#,
        answer: r#"{"status": "success", "message": "Pre-lead created successfully", "data": {"pre_lead_id": 123}}"#,
    },
    ContractExample {
        path: "pre-lead/{pre_lead_id}/update",
        request: r#"{
  "event": "pre_lead_update",
  "source": "erp",
  "data": {
    "first_name": "John",
    "last_name": "Doe Updated",
    "email": "john.updated@example.com",
    "phone": "+1234567891",
    "company_name": "ABC Corp Updated",
    "product_interest": "Enterprise CRM",
    "requirements": "Updated requirements",
    "city": "Los Angeles",
    "state": "CA",
    "lead_status": "contacted",
    "notes": "Follow up scheduled"
  }
}"#,
        answer: r#"{"status": "success", "message": "Pre-lead updated successfully", "data": {"pre_lead_id": 123}}"#,
    },
    ContractExample {
        path: "pre-lead/{pre_lead_id}/discard",
        request: r#"{
  "event": "pre_lead_discard",
  "source": "crm",
  "data": {
    "reason": "Not interested - budget constraints"
  }
}"#,
        answer: r#"{"status": "success", "message": "Pre-lead discarded successfully", "data": {"pre_lead_id": 123}}"#,
    },
    ContractExample {
        path: "pre-lead/{pre_lead_id}/contact/add",
        request: r#"{
  "event": "pre_lead_contact_add",
  "source": "website",
  "data": {
    "first_name": "Jane",
    "last_name": "Smith",
    "email": "jane.smith@abccorp.com",
    "phone": "+1234567892",
    "designation": "Procurement Manager",
    "department": "Purchasing",
    "is_primary": true
  }
}"#,
        answer: r#"{"status": "success", "message": "Contact added successfully", "data": {"contact_id": 456, "pre_lead_id": 123}}"#,
    },
    ContractExample {
        path: "pre-lead/{pre_lead_id}/memo/add",
        request: r#"{
  "event": "pre_lead_memo_add",
  "source": "crm",
  "data": {
    "title": "Initial Call Summary",
    "content": "Discussed requirements. Client needs enterprise solution with 500+ users.",
    "memo_type": "call"
  }
}"#,
        answer: r#"{"status": "success", "message": "Memo added successfully", "data": {"memo_id": 789, "pre_lead_id": 123}}"#,
    },
    ContractExample {
        path: "pre-lead/{pre_lead_id}/status/update",
        request: r#"{
  "event": "pre_lead_status_update",
  "source": "crm",
  "data": {
    "lead_status": "qualified",
    "remarks": "Qualified after initial assessment"
  }
}"#,
        answer: r#"{"status": "success", "message": "Pre-lead status updated successfully", "data": {"pre_lead_id": 123, "old_status": "new", "new_status": "qualified"}}"#,
    },
    ContractExample {
        path: "pre-lead/{pre_lead_id}/convert",
        request: r#"{
  "event": "pre_lead_convert",
  "source": "crm",
  "data": {
    "priority": "high",
    "assigned_to": 5,
    "expected_value": 50000.00,
    "notes": "High value prospect - prioritize follow-up"
  }
}"#,
        answer: r#"{"status": "success", "message": "Pre-lead converted to lead successfully", "data": {"pre_lead_id": 123, "lead_id": 456}}"#,
    },
    ContractExample {
        path: "lead/create",
        request: r#"{
  "event": "new_lead",
  "source": "website",
  "data": {
    "first_name": "Robert",
    "last_name": "Johnson",
    "email": "robert@example.com",
    "phone": "+1234567893",
    "company_name": "XYZ Industries",
    "source": "referral",
    "priority": "high",
    "product_interest": "Enterprise Suite",
    "requirements": "Full ERP integration needed",
    "expected_value": 100000.00,
    "city": "Chicago",
    "state": "IL",
    "country": "USA",
    "address_line1": "456 Business Ave",
    "zip_code": "60601",
    "assigned_to": 3,
    "notes": "Referred by existing customer"
  }
}"#,
        answer: r#"{"status": "success", "message": "Lead created successfully", "data": {"lead_id": 789}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/update",
        request: r#"{
  "event": "lead_update",
  "source": "erp",
  "data": {
    "first_name": "Robert",
    "last_name": "Johnson Jr.",
    "company_name": "XYZ Industries Inc.",
    "designation": "CEO",
    "company_size": "500-1000",
    "product_interest": "Enterprise Suite + Support",
    "expected_value": 150000.00,
    "lead_status": "proposal_sent",
    "priority": "critical",
    "notes": "Updated contact information"
  }
}"#,
        answer: r#"{"status": "success", "message": "Lead updated successfully", "data": {"lead_id": 789}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/discard",
        request: r#"{
  "event": "lead_discard",
  "source": "crm",
  "data": {
    "reason": "Lost to competitor",
    "loss_reason": "Price too high - went with cheaper alternative"
  }
}"#,
        answer: r#"{"status": "success", "message": "Lead discarded successfully", "data": {"lead_id": 789}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/contact/add",
        request: r#"{
  "event": "lead_contact_add",
  "source": "crm",
  "data": {
    "first_name": "Sarah",
    "last_name": "Williams",
    "email": "sarah@xyzindustries.com",
    "phone": "+1234567894",
    "designation": "CTO",
    "department": "Technology",
    "is_primary": false
  }
}"#,
        answer: r#"{"status": "success", "message": "Contact added successfully", "data": {"contact_id": 101, "lead_id": 789}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/activity/add",
        request: r#"{
  "event": "lead_activity_add",
  "source": "crm",
  "data": {
    "activity_type": "meeting",
    "title": "Product Demo",
    "description": "Conducted full product demonstration for technical team",
    "scheduled_at": "2024-01-20T14:00:00Z",
    "completed_at": "2024-01-20T15:30:00Z",
    "outcome": "Positive feedback, moving to proposal stage"
  }
}"#,
        answer: r#"{"status": "success", "message": "Activity added successfully", "data": {"activity_id": 202, "lead_id": 789}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/qualified-profile/update",
        request: r#"{
  "event": "lead_qualified_profile_update",
  "source": "crm",
  "data": {
    "profile_type": "qualified",
    "company": "XYZ Industries",
    "industry": "Manufacturing",
    "best_time_call": "10:00 AM - 12:00 PM",
    "timezone": "CST",
    "mode": "hybrid",
    "contact_name": "Robert Johnson",
    "designation": "CEO",
    "phone": "+1234567893",
    "email": "robert@xyzindustries.com",
    "need_type": "New Implementation",
    "current_solution": "Legacy ERP System",
    "pain_point": "Manual processes, lack of integration",
    "budget": 150000.00,
    "decision_timeline": "Q2 2024",
    "decision_maker": "Board of Directors",
    "competitor_info": "Evaluating SAP and Oracle",
    "notes": "Strong buying signals, ready to proceed"
  }
}"#,
        answer: r#"{"status": "success", "message": "Qualified profile updated successfully", "data": {"lead_id": 789, "profile_id": 303}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/memo/add",
        request: r#"{
  "event": "lead_memo_add",
  "source": "crm",
  "data": {
    "title": "Negotiation Update",
    "content": "Client requested 10% discount. Approved by sales manager.",
    "memo_type": "general"
  }
}"#,
        answer: r#"{"status": "success", "message": "Memo added successfully", "data": {"memo_id": 404, "lead_id": 789}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/status/update",
        request: r#"{
  "event": "lead_status_update",
  "source": "crm",
  "data": {
    "lead_status": "negotiation",
    "remarks": "Final pricing discussion",
    "status_date": "2024-01-25T09:00:00Z"
  }
}"#,
        answer: r#"{"status": "success", "message": "Lead status updated successfully", "data": {"lead_id": 789, "old_status": "proposal_sent", "new_status": "negotiation"}}"#,
    },
    ContractExample {
        path: "lead/{lead_id}/convert",
        request: r#"{
  "event": "lead_convert",
  "source": "crm",
  "data": {
    "customer_code": "CUST-XYZ-001",
    "credit_limit": 100000.00,
    "payment_terms": "Net 30",
    "notes": "VIP customer - premium support"
  }
}"#,
        answer: r#"{"status": "success", "message": "Lead converted to customer successfully", "data": {"lead_id": 789, "customer_id": 505, "customer_code": "CUST-XYZ-001"}}"#,
    },
];
